; Every form of import. `@statement` is the extent of an import; a path outside of one names a crate by its first
; segment, unless the file itself binds that name (`@bound`, `@module`); one that begins with `::` always does.
(use_declaration) @statement
(use_declaration argument: [(identifier) (scoped_identifier) (scoped_use_list path: (_)) (use_as_clause) (use_wildcard)] @import.use)
(use_declaration argument: (use_list [(identifier) (scoped_identifier) (scoped_use_list path: (_)) (use_as_clause) (use_wildcard)] @import.use))
; `use ::{a, b::c}` names crates, and so does a list in a list.
(use_declaration argument: (scoped_use_list !path list: (use_list [(identifier) (scoped_identifier) (scoped_use_list path: (_)) (use_as_clause) (use_wildcard)] @import.use)))
(use_declaration argument: (use_list (use_list [(identifier) (scoped_identifier) (scoped_use_list path: (_)) (use_as_clause) (use_wildcard)] @import.use)))
(extern_crate_declaration name: (identifier) @import.extern_crate)
(scoped_identifier path: (identifier) @path (#match? @path "^(r#)?[a-z_]"))
(scoped_type_identifier path: (identifier) @path (#match? @path "^(r#)?[a-z_]"))
(scoped_identifier . "::" name: (identifier) @path.absolute)
(scoped_type_identifier . "::" name: (type_identifier) @path.absolute)
(visibility_modifier) @statement
; Lints and the attributes of tools have paths of their own, whose first segment is no crate.
(attribute_item (attribute . (identifier) @_lint) (#any-of? @_lint "allow" "expect" "warn" "deny" "forbid")) @statement
(inner_attribute_item (attribute . (identifier) @_lint) (#any-of? @_lint "allow" "expect" "warn" "deny" "forbid")) @statement
(attribute . (scoped_identifier path: (identifier) @_tool)
  (#any-of? @_tool "clippy" "rustfmt" "rustdoc" "miri" "diagnostic")) @statement
(mod_item name: (identifier) @module)

(use_declaration argument: (scoped_identifier name: (identifier) @bound))
(scoped_use_list list: (use_list (identifier) @bound))
(use_list (scoped_identifier name: (identifier) @bound))
(scoped_use_list path: [(identifier) @bound (scoped_identifier name: (identifier) @bound)] list: (use_list (self)))
(use_as_clause alias: (identifier) @bound)
(extern_crate_declaration alias: (identifier) @module)
; Names that are bound otherwise: macros and generics have none that a path begins with.
