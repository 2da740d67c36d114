; Declarations that may give a data type a name.
(class_definition name: (identifier) @name) @class
(decorated_definition (decorator) @decorator definition: (class_definition) @decorated)
(type_alias_statement left: (type (identifier) @name)) @alias
(module (expression_statement (assignment left: (identifier) @name right: (_)) @assignment))
(import_statement) @import
(import_from_statement) @import
