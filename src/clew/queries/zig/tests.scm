; What tests expect of a call.
(call_expression function: (field_expression member: (identifier) @_equal) . "(" . (_) @test.value . "," . (call_expression) @test.call
  (#any-of? @_equal "expectEqual" "expectEqualStrings" "expectEqualSlices"))
(call_expression function: (field_expression member: (identifier) @_error) . "(" . (_) @test.raised . "," . (call_expression) @test.call
  (#eq? @_error "expectError"))
(call_expression function: (field_expression member: (identifier) @_expect)
  (binary_expression left: (call_expression) @test.call operator: "==" right: (_) @test.value)
  (#eq? @_expect "expect"))
