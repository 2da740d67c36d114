; Text literals, and names that are given a value. Import paths and struct tags are literals too.
(interpreted_string_literal) @literal
(raw_string_literal) @literal
(short_var_declaration left: (expression_list) @value.name right: (expression_list) @value)
(assignment_statement left: (expression_list) @value.name right: (expression_list) @value)
(var_spec name: (identifier) @value.name value: (expression_list) @value)
(const_spec name: (identifier) @value.name value: (expression_list) @value)
(keyed_element key: (literal_element [(identifier) (interpreted_string_literal) (raw_string_literal)] @value.name)
  value: (literal_element (_) @value))
