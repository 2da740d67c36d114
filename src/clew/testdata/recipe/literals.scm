(interpreted_string_literal) @literal
