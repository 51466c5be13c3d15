"""The private names of Keras, TensorFlow and OmegaConf that this framework uses.

Each function says what a name is for and what could replace it; each section names the version in
which it was verified. Functions import the libraries when called: `--help` needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

# ---- Keras (3.15)


def layers_within(layer: Any) -> list[Any]:
    """Return a layer and all layers within it: `Layer._flatten_layers`."""
    return list(layer._flatten_layers())


def layers_below(layer: Any) -> list[Any]:
    """Return the direct sublayers of a layer: `Layer._flatten_layers`."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def made_trainable(layer: Any) -> list[Any]:
    """Return the variables that a layer itself created as trainable, frozen or not.

    `Layer._trainable_variables`. `Layer.trainable_variables` omits frozen variables.
    """
    return list(layer._trainable_variables)


def made_untrainable(layer: Any) -> list[Any]:
    """Return the variables that a layer itself created as not trainable, such as statistics.

    `Layer._non_trainable_variables`. `Layer.non_trainable_variables` includes frozen variables.
    """
    return list(layer._non_trainable_variables)


def clear_losses(model: Any) -> None:
    """Discard the `add_loss` terms of an earlier call: `Layer._clear_losses`."""
    model._clear_losses()


def check_known_variables(optimizer: Any, variables: Sequence[Any]) -> None:
    """Raise if an optimizer belongs to other variables: `_check_variables_are_known`."""
    optimizer._check_variables_are_known(list(variables))


def learning_rate_of(optimizer: Any) -> Any:
    """Return a learning rate as given; the public attribute computes it: `_learning_rate`."""
    return optimizer._learning_rate


def put_on_devices(optimizer: Any, strategy: Any) -> bool:
    """Make an optimizer use a strategy's devices, if its variables are there or not yet created.

    `_distribution_strategy` of Keras's TensorFlow optimizer. There is no public alternative.

    Returns:
        False if its variables are, or will be, on other devices.
    """
    if optimizer.built and hasattr(optimizer.iterations.value, "values"):  # an earlier run's
        optimizer._distribution_strategy = strategy
    return optimizer._distribution_strategy is strategy


def takes_reduced_gradients(optimizer: Any) -> None:
    """Keep an optimizer from reducing gradients again: `_all_reduce_sum_gradients`."""
    optimizer._all_reduce_sum_gradients = list


def copy_weight_decay(optimizer: Any, other: Any) -> None:
    """Copy another optimizer's exclusions from weight decay, which its configuration omits.

    `_exclude_from_weight_decay` and `_exclude_from_weight_decay_pattern`.
    """
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if value := getattr(other, name, None):
            setattr(optimizer, name, value)


def set_monitor_op(callback: Any) -> None:
    """Make a Keras callback compare by its changed `mode`: `_set_monitor_op`."""
    callback._set_monitor_op()


def open_built_shapes(layer: Any, opened: Callable[[Any], Any]) -> bool:
    """Change the shapes that a layer was built with; return whether there are any.

    `Layer._build_shapes_dict`, which `get_build_config` returns.
    """
    if not layer._build_shapes_dict:
        return False
    layer._build_shapes_dict = opened(dict(layer._build_shapes_dict))
    return True


def rebuild_sequential(model: Any, opened: Callable[[Any], Any]) -> None:
    """Make a `Sequential` that was built from a batch accept batches of another size.

    `Sequential._functional`, `_layers`, and the nodes of its layers, which would otherwise have
    two outputs. A `rebuild` that takes a shape could replace this.
    """
    if model._functional is None:
        return
    first, *others = model._layers
    shape = opened(first.batch_shape)
    if shape == first.batch_shape:
        return
    for layer in others:
        layer._inbound_nodes.clear()
        layer._outbound_nodes.clear()
    model._layers, model._functional, model.built = others, None, False
    model.build(shape)


def keras_global(name: str) -> Any:
    """Return what Keras stores per process or thread under a name: `global_state`."""
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute(name)


def set_keras_global(name: str, value: Any) -> None:
    """Set what Keras stores per process or thread under a name: `global_state`."""
    from keras.src.backend.common import global_state

    global_state.set_global_attribute(name, value)


def keras_seed_generator() -> Any:
    """Return the generator that Keras uses without a seed: `global_seed_generator`."""
    from keras.src.random.seed_generator import global_seed_generator

    return global_seed_generator()


def unscaled_losses() -> AbstractContextManager[None]:
    """Keep Keras's loss objects from dividing by the number of devices in the body.

    `keras.src.losses.loss.scale_loss_for_distribution`. An argument of `Loss` could replace it.
    """
    from keras.src.losses import loss

    return _replaced(loss, scale_loss_for_distribution=lambda value: value)


def nothing_dropped() -> AbstractContextManager[None]:
    """Make Keras's dropout layers drop nothing in the body.

    `keras.src.backend.random.dropout`. `training=False` would also affect batch normalization.
    """
    from keras.src import backend

    return _replaced(backend.random, dropout=lambda inputs, *_, **__: inputs)


# ---- TensorFlow (2.21)


def called_function(graph: Any, name: str) -> Any:
    """Return the graph of a function that a graph may call, or None: `_get_function`."""
    return graph._get_function(name).graph if graph._is_function(name) else None


def eager_random_state() -> Any:
    """Return the generator of seeds for operations that run eagerly; None without a global seed.

    `tensorflow.python.eager.context`. `tf.random.set_seed` only restarts it.
    """
    from tensorflow.python.eager import context

    return None if context.global_seed() is None else context.context()._rng


def global_seed() -> Any:
    """Return the last argument of `tf.random.set_seed`, or None: `context.global_seed`."""
    from tensorflow.python.eager import context

    return context.global_seed()


@contextmanager
def deterministic_operations() -> Iterator[None]:
    """Make TensorFlow's operations deterministic in the body.

    `tensorflow.python.framework.config`, which can read and undo what
    `tf.config.experimental.enable_op_determinism` sets.
    """
    from tensorflow.python.framework import config

    before = config.is_op_determinism_enabled()
    config.enable_op_determinism()
    try:
        yield
    finally:
        if not before:
            config.disable_op_determinism()


def at_work_outside_a_cluster() -> bool:
    """Whether TensorFlow is initialized, and not in a cluster.

    `Context._context_handle` and `_collective_leader`. There is no public alternative.
    """
    from tensorflow.python.eager import context

    made = context.context()
    return made._context_handle is not None and made._collective_leader is None


@contextmanager
def operations_seen(note: Callable[..., None]) -> Iterator[None]:
    """Call a function with each operation that runs eagerly in the body.

    `tensorflow.python.framework.op_callbacks`.
    """
    from tensorflow.python.framework import op_callbacks

    op_callbacks.add_op_callback(note)
    try:
        yield
    finally:
        op_callbacks.remove_op_callback(note)


def is_resource(kind: type) -> bool:
    """Whether a class is a resource with a handle, such as a table: `TrackableResource`."""
    from tensorflow.python.trackable.resource import TrackableResource

    return issubclass(kind, TrackableResource)


def sums_made_by(make: Callable[..., tuple[Any, Any]]) -> AbstractContextManager[None]:
    """Replace the functions that add tensors in the body; `make` receives TensorFlow's own.

    `gen_math_ops.add_n`, which tapes and `tf.add_n` call, and `add_v2`, which `+` calls.
    """
    from tensorflow.python.ops import gen_math_ops

    add_n, add_v2 = make(gen_math_ops.add_n, gen_math_ops.add_v2)
    return _replaced(gen_math_ops, add_n=add_n, add_v2=add_v2)


def keep_sum(operation: Any) -> None:
    """Mark an addition as one that the graph optimizer has looked at, so that it stays as it is.

    `kAddOpsRewriteTag` of `grappler/optimizers/arithmetic_optimizer.cc`, by `Operation._set_attr`.
    """
    from tensorflow.core.framework.attr_value_pb2 import AttrValue

    operation._set_attr("_grappler_ArithmeticOptimizer_AddOpsRewriteStage", AttrValue(b=True))


def lowered(function: Any, specs: Sequence[Any]) -> None:
    """Lower a concrete function for XLA without compiling it; raise what XLA rejects.

    `tensorflow.python.eager.polymorphic_function.compiler_ir`. `experimental_get_compiler_ir` of a
    `tf.function` would trace again.
    """
    from tensorflow.python.eager.polymorphic_function import compiler_ir

    compiler_ir.from_concrete_function(function, specs)(stage="hlo")


def operation_definition(kind: str) -> Any:
    """Return the definition of an operation type, or None: `op_def_registry.get`."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(kind)


def gpu_limits() -> list[int]:
    """Return the bytes that TensorFlow may use on each GPU: `device_lib`."""
    from tensorflow.python.client import device_lib

    return [d.memory_limit for d in device_lib.list_local_devices() if d.device_type == "GPU"]


def dataset_inputs(dataset: Any) -> list[Any]:
    """Return the datasets that a dataset reads from: `DatasetV2._inputs`."""
    return list(dataset._inputs())


def dataset_functions(dataset: Any) -> list[Any]:
    """Return the graphs of the functions that a dataset calls: `DatasetV2._functions`."""
    return [wrapped.function.graph for wrapped in dataset._functions()]


def autograph_context() -> Any:
    """Return AutoGraph's current status: `tf.__internal__.autograph.control_status_ctx`."""
    import tensorflow as tf

    return tf.__internal__.autograph.control_status_ctx()


def autographed(function: Callable[..., Any], context: Any) -> Any:
    """Return a function converted by AutoGraph: `tf.__internal__.autograph.tf_convert`."""
    import tensorflow as tf

    return tf.__internal__.autograph.tf_convert(function, context)


def scratch_graph(name: str) -> Any:
    """Return a temporary graph: `tf.__internal__.FuncGraph`."""
    import tensorflow as tf

    return tf.__internal__.FuncGraph(name)


# ---- OmegaConf (2.3)


def node_of(config: Any, key: Any) -> Any:
    """Return the node below a key, unresolved: `Container._get_node`."""
    return config._get_node(key)


def is_null(node: Any) -> bool:
    """Whether a node is None: `Node._is_none`."""
    return bool(node._is_none())


def is_interpolation(node: Any) -> bool:
    """Whether a node is `${...}`: `Node._is_interpolation`; the public function needs a parent."""
    return bool(node._is_interpolation())


def is_missing(node: Any) -> bool:
    """Whether a node is `???`: `Node._is_missing`."""
    return bool(node._is_missing())


def raw(node: Any) -> Any:
    """Return the unresolved value of a node: `Node._value`."""
    return node._value()


@contextmanager
def _replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Give attributes of a module other values in the body."""
    former = {name: getattr(owner, name) for name in values}
    try:
        vars(owner).update(values)
        yield
    finally:
        vars(owner).update(former)
