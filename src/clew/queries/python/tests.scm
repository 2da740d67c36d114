; What pytest and unittest expect of a call, and what documentation says.
(assert_statement . (comparison_operator . (call) @test.call . "==" . (_) @test.value .))
(assert_statement . (comparison_operator . (call) @test.call . "is" . [(true) (false) (none)] @test.value .))
(call function: (attribute attribute: (identifier) @_equal)
  arguments: (argument_list . (call) @test.call . (_) @test.value)
  (#any-of? @_equal "assertEqual" "assertEquals" "assertAlmostEqual" "assertIs" "assertListEqual" "assertDictEqual"))
(with_statement
  (with_clause (with_item value: (call function: (_) @_raises arguments: (argument_list . (_) @test.raised))))
  body: (block . (expression_statement (call) @test.call) .)
  (#match? @_raises "^(pytest\\.)?raises$|\\.assertRaises(Regex)?$"))

(function_definition name: (identifier) @doc.of body: (block . (expression_statement . (string) @doc)))
(class_definition name: (identifier) @doc.of body: (block . (expression_statement . (string) @doc)))
