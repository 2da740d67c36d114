; Declared names by kind. A constant that holds a type declares a type; one that only repeats another name is exempt.
(function_declaration name: (identifier) @name.function)
(function_declaration name: (identifier) @exempt type: (builtin_type) @_type (#eq? @_type "type"))

(variable_declaration "const" . (identifier) @name.type . "="
  [(struct_declaration) (enum_declaration) (union_declaration) (opaque_declaration) (error_set_declaration)])
(variable_declaration ["const" "var"] . (identifier) @name.variable)
(variable_declaration "const" . (identifier) @exempt . "=" [(builtin_function) (field_expression)])
(parameter name: (identifier) @name.variable)
(parameter name: (identifier) @exempt type: (builtin_type) @_type (#eq? @_type "type"))
(payload (identifier) @name.variable)
(container_field name: (identifier) @name.field)
