; The cases of table tests.
(function_declaration name: (identifier) @test.of
  body: (block (statement_list (short_var_declaration right: (expression_list
    (composite_literal type: [(slice_type) (map_type)] body: (literal_value) @test.rows)))))
  (#match? @test.of "^Test"))
