"""The built-in config groups, and the root that contains them.

Each group is made of dataclass schemas. They define the choices (`optimizer=sgd`) and their options
(`optimizer.momentum=0.9`), with types and defaults. A project adds a choice to any group with a
file of its own: `conf/optimizer/mine.yaml` becomes `optimizer=mine`.
"""
