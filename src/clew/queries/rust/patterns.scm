; `@category.pattern`: each is counted. Every one has an example and a near miss in testdata/patterns/rust.txt.

(function_item) @functions.function_declaration
(function_item (function_modifiers "async")) @functions.async_function
(function_item (function_modifiers "const")) @functions.const_function
(function_item (function_modifiers "unsafe")) @functions.unsafe_function
(function_modifiers (extern_modifier)) @functions.extern_function
(parameters (self_parameter)) @functions.method
(function_item (visibility_modifier)) @functions.public_function
(function_item type_parameters: (type_parameters)) @functions.generic_function
(closure_expression) @functions.closure
(closure_expression "move") @functions.move_closure
(match_expression) @functions.match_expression
(macro_definition) @functions.macro_definition

(generic_type) @types.generic_type
(generic_type type: (type_identifier) @_option (#eq? @_option "Option")) @types.option
(dynamic_type) @types.trait_object
(abstract_type) @types.impl_trait
(tuple_type) @types.tuple_type
(array_type) @types.array_type
(reference_type type: (array_type !length)) @types.slice_type
(type_item) @types.type_alias
(where_clause) @types.where_clause
(trait_bounds) @types.trait_bound
(associated_type) @types.associated_type
(function_type) @types.function_type
(type_cast_expression) @types.cast
(never_type) @types.never_type
(const_parameter) @types.const_generic

(await_expression) @async.await
(async_block) @async.async_block
(call_expression function: [(identifier) (scoped_identifier)] @_spawn
  (#match? @_spawn "(^|::)spawn(_blocking)?$")) @async.spawn
(macro_invocation macro: [(identifier) (scoped_identifier)] @_join (#match? @_join "(^|::)(try_)?join$")) @async.join
(macro_invocation macro: [(identifier) (scoped_identifier)] @_select (#match? @_select "(^|::)select$")) @async.select
(call_expression function: (scoped_identifier) @_channel
  (#match? @_channel "(mpsc|oneshot|broadcast|watch|crossbeam_channel).*::(channel|unbounded_channel|sync_channel|bounded|unbounded)$")) @async.channel
(generic_type type: [(type_identifier) (scoped_type_identifier)] @_future
  (#match? @_future "(^|::)(Pin|BoxFuture|JoinHandle)$")) @async.future_type

(function_item return_type: (generic_type type: [(type_identifier) (scoped_type_identifier)] @_result)
  (#match? @_result "(^|::)Result$")) @errors.result
(try_expression) @errors.question_mark
(call_expression function: (field_expression field: (field_identifier) @_unwrap) (#eq? @_unwrap "unwrap")) @errors.unwrap
(call_expression function: (field_expression field: (field_identifier) @_expect) (#eq? @_expect "expect")) @errors.expect
(macro_invocation macro: (identifier) @_panic (#eq? @_panic "panic")) @errors.panic
(macro_invocation macro: (identifier) @_todo (#any-of? @_todo "todo" "unimplemented")) @errors.todo
(macro_invocation macro: (identifier) @_unreachable (#eq? @_unreachable "unreachable")) @errors.unreachable
(macro_invocation macro: (identifier) @_assert
  (#any-of? @_assert "assert" "assert_eq" "assert_ne" "debug_assert" "debug_assert_eq")) @errors.assertion
(call_expression function: (field_expression field: (field_identifier) @_map) (#any-of? @_map "map_err" "or_else")) @errors.mapped_error
(call_expression function: (field_expression field: (field_identifier) @_context)
  (#any-of? @_context "context" "with_context")) @errors.error_context
(tuple_struct_pattern type: (identifier) @_err (#eq? @_err "Err")) @errors.matched_error
(call_expression function: (identifier) @_err (#eq? @_err "Err")) @errors.returned_error
(impl_item trait: [(type_identifier) (scoped_type_identifier)] @_error (#match? @_error "(^|::)Error$")) @errors.error_type
(let_declaration alternative: (block)) @errors.let_else

(use_declaration) @imports.use
(scoped_use_list) @imports.grouped_use
(use_wildcard) @imports.glob_use
(use_as_clause) @imports.aliased_use
(use_declaration (visibility_modifier)) @imports.public_use
(extern_crate_declaration) @imports.extern_crate
(mod_item !body) @imports.module_file
(mod_item body: (_)) @imports.inline_module
(use_declaration argument: [(scoped_identifier) (scoped_use_list) (use_wildcard)] @_crate (#match? @_crate "^crate::")) @imports.crate_use
(use_declaration argument: [(scoped_identifier) (scoped_use_list) (use_wildcard)] @_super (#match? @_super "^super::")) @imports.super_use

(struct_item body: (field_declaration_list)) @classes.struct
(struct_item body: (ordered_field_declaration_list)) @classes.tuple_struct
(struct_item !body) @classes.unit_struct
(enum_item) @classes.enum
(enum_variant body: (_)) @classes.data_variant
(union_item) @classes.union
(trait_item) @classes.trait
(trait_item bounds: (trait_bounds)) @classes.supertrait
(impl_item !trait) @classes.inherent_impl
(impl_item trait: (_)) @classes.trait_impl
(impl_item type_parameters: (_)) @classes.generic_impl
(function_signature_item) @classes.required_method

(attribute_item) @metadata.attribute
(inner_attribute_item) @metadata.inner_attribute
(attribute (identifier) @_derive (#eq? @_derive "derive")) @metadata.derive
(attribute (identifier) @_cfg (#any-of? @_cfg "cfg" "cfg_attr")) @metadata.conditional_compilation
(attribute (identifier) @_lint (#any-of? @_lint "allow" "warn" "deny" "forbid" "expect")) @metadata.lint_level
(attribute [(identifier) (scoped_identifier)] @_test (#match? @_test "(^|::)test$")) @metadata.test
(attribute (identifier) @_must (#eq? @_must "must_use")) @metadata.must_use
(line_comment outer: (_)) @metadata.doc_comment
(line_comment inner: (_)) @metadata.module_doc_comment

(generic_type type: (type_identifier) @_box (#eq? @_box "Box")) @memory.box
(generic_type type: (type_identifier) @_rc (#eq? @_rc "Rc")) @memory.rc
(generic_type type: (type_identifier) @_arc (#eq? @_arc "Arc")) @memory.arc
(generic_type type: (type_identifier) @_weak (#eq? @_weak "Weak")) @memory.weak
(generic_type type: (type_identifier) @_mutex (#any-of? @_mutex "Mutex" "RwLock")) @memory.lock
(generic_type type: (type_identifier) @_cell (#any-of? @_cell "RefCell" "Cell" "OnceCell" "OnceLock")) @memory.interior_mutability
(generic_type type: (type_identifier) @_cow (#eq? @_cow "Cow")) @memory.cow
(lifetime_parameter) @memory.lifetime_parameter
(reference_type (lifetime)) @memory.named_lifetime
(reference_type (mutable_specifier)) @memory.mutable_reference
(pointer_type) @memory.raw_pointer
(unsafe_block) @memory.unsafe_block
(call_expression function: (field_expression field: (field_identifier) @_clone) (#eq? @_clone "clone")) @memory.clone
(impl_item trait: (type_identifier) @_drop (#eq? @_drop "Drop")) @memory.drop
(call_expression function: (scoped_identifier) @_take (#match? @_take "(^|::)mem::(take|replace|swap)$")) @memory.mem_take
(static_item (mutable_specifier)) @memory.mutable_static
