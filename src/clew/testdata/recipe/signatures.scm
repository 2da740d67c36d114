(function_declaration name: (_) @signature.name body: (_) @signature.body) @signature
