(function_declaration name: (identifier) @name.function)
(short_var_declaration left: (expression_list (identifier) @name.variable))
