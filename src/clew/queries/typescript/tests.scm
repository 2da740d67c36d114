; What Jest, Vitest and node:assert expect of a call.
(call_expression
  function: (member_expression
    object: (call_expression function: (identifier) @_expect arguments: (arguments . (call_expression) @test.call .))
    property: (property_identifier) @_matcher)
  arguments: (arguments . (_) @test.value .)
  (#eq? @_expect "expect")
  (#any-of? @_matcher "toBe" "toEqual" "toStrictEqual" "toBeCloseTo"))
(call_expression
  function: (member_expression
    object: (call_expression function: (identifier) @_expect
      arguments: (arguments . (arrow_function body: [
        (call_expression) @test.call
        (statement_block . (expression_statement (call_expression) @test.call) .)])))
    property: (property_identifier) @_matcher)
  arguments: (arguments . [(identifier) (string) (regex)] @test.raised)
  (#eq? @_expect "expect")
  (#any-of? @_matcher "toThrow" "toThrowError"))
(call_expression
  function: (member_expression object: (identifier) @_assert property: (property_identifier) @_equal)
  arguments: (arguments . (call_expression) @test.call . (_) @test.value)
  (#eq? @_assert "assert")
  (#any-of? @_equal "equal" "strictEqual" "deepEqual" "deepStrictEqual"))
