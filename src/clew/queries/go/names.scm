; Declared names by kind. `_` declares nothing.
(function_declaration name: (identifier) @name.function)
(method_declaration name: (field_identifier) @name.function)
(method_elem name: (field_identifier) @name.function)

(type_spec name: (type_identifier) @name.type)
(type_alias name: (type_identifier) @name.type)
(type_parameter_declaration name: (identifier) @name.type)

(const_spec name: (identifier) @name.constant)
(field_declaration name: (field_identifier) @name.field)

(var_spec name: (identifier) @name.variable)
(short_var_declaration left: (expression_list (identifier) @name.variable))
(parameter_declaration name: (identifier) @name.variable)
(variadic_parameter_declaration name: (identifier) @name.variable)
(range_clause left: (expression_list (identifier) @name.variable))
(receive_statement left: (expression_list (identifier) @name.variable))
(type_switch_statement alias: (expression_list (identifier) @name.variable))
