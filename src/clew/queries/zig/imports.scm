; Every form of import: `@import` of a module or file, C headers, and files that are embedded as bytes.
(builtin_function (builtin_identifier) @_import (arguments . (_) @argument.import) (#eq? @_import "@import"))
(builtin_function (builtin_identifier) @argument.c_import (#any-of? @argument.c_import "@cImport" "@cInclude"))
(builtin_function (builtin_identifier) @_embed (arguments . (string) @import.embed_file) (#eq? @_embed "@embedFile"))
