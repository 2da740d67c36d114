; Declarations that give a type a name, at any depth.
(interface_declaration name: (_) @name) @interface
(type_alias_declaration name: (_) @name) @alias
(enum_declaration name: (_) @name) @enum
(import_statement) @import
(export_statement) @export
