"""The config groups that come with the library, and the root that holds them.

Dataclass schemas: what can be chosen (`optimizer=sgd`) and set (`optimizer.momentum=0.9`), with
types and defaults. A project adds choices to any group by a file of its own:
`conf/optimizer/mine.yaml` becomes `optimizer=mine`.
"""
