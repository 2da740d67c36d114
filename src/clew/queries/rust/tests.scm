; What tests expect of a call.
(macro_invocation macro: (identifier) @_assert (token_tree) @test.pair (#eq? @_assert "assert_eq"))
