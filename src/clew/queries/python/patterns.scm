; `@category.pattern`: each is counted. Every one has an example and a near miss in testdata/patterns/python.txt.

(function_definition) @functions.function_declaration
(function_definition "async") @functions.async_function
(lambda) @functions.lambda
(class_definition body: (block (function_definition))) @functions.method
(class_definition body: (block (decorated_definition definition: (function_definition)))) @functions.decorated_method
(decorated_definition definition: (function_definition)) @functions.decorated_function
(default_parameter) @functions.default_parameter
(typed_default_parameter) @functions.typed_default_parameter
(parameters (list_splat_pattern)) @functions.variadic_parameters
(parameters (dictionary_splat_pattern)) @functions.keyword_parameters
(keyword_separator) @functions.keyword_only_parameters
(positional_separator) @functions.positional_only_parameters
(list_comprehension) @functions.list_comprehension
(dictionary_comprehension) @functions.dictionary_comprehension
(function_definition body: (block (function_definition))) @functions.nested_function
(match_statement) @functions.match_statement

(typed_parameter type: (type)) @types.parameter_annotation
(function_definition return_type: (type)) @types.return_annotation
(assignment type: (type)) @types.variable_annotation
(type (generic_type (identifier) @_optional) (#eq? @_optional "Optional")) @types.optional_type
(type (generic_type (identifier) @_union) (#eq? @_union "Union")) @types.union_type
(type (binary_operator "|")) @types.union_operator
(type (generic_type)) @types.generic_annotation
(type (generic_type (identifier) @_literal) (#eq? @_literal "Literal")) @types.literal_type
(type (generic_type (identifier) @_callable) (#eq? @_callable "Callable")) @types.callable_type
(type (identifier) @_any (#eq? @_any "Any")) @types.any_annotation
(type (none)) @types.none_annotation
(call function: [(identifier) (attribute)] @_variable (#match? @_variable "(^|\\.)TypeVar$")) @types.type_variable
(call function: [(identifier) (attribute)] @_new (#match? @_new "(^|\\.)NewType$")) @types.new_type
(type_alias_statement) @types.type_alias
(call function: (identifier) @_cast (#eq? @_cast "cast")) @types.cast
(call function: (identifier) @_check (#eq? @_check "isinstance")) @types.type_check

(await) @async.await
(for_statement "async") @async.async_for
(with_statement "async") @async.async_with
(call function: (attribute object: (identifier) @_asyncio attribute: (identifier) @_gather)
  (#eq? @_asyncio "asyncio") (#any-of? @_gather "gather" "wait" "as_completed")) @async.gather
(call function: (attribute attribute: (identifier) @_task)
  (#any-of? @_task "create_task" "ensure_future" "start_soon")) @async.task
(call function: (attribute object: (identifier) @_asyncio attribute: (identifier) @_run)
  (#eq? @_asyncio "asyncio") (#eq? @_run "run")) @async.event_loop
(yield) @async.yield
(call function: [(identifier) (attribute)] @_thread
  (#match? @_thread "(^|\\.)(Thread|ThreadPoolExecutor|ProcessPoolExecutor)$")) @async.thread

(try_statement) @errors.try_except
(except_clause "except" . ":") @errors.bare_except
(except_clause value: (as_pattern)) @errors.bound_exception
(except_clause value: (tuple)) @errors.exception_tuple
(finally_clause) @errors.finally
(try_statement (else_clause)) @errors.try_else
(raise_statement (_)) @errors.raise
(raise_statement cause: (_)) @errors.raise_from
(class_definition superclasses: (argument_list [(identifier) (attribute)] @_base)
  (#match? @_base "(Error|Exception|Warning)$")) @errors.exception_class
(assert_statement) @errors.assertion
(call function: [(identifier) (attribute)] @_suppress (#match? @_suppress "(^|\\.)suppress$")) @errors.suppressed_exception

(import_statement) @imports.import
(import_from_statement) @imports.from_import
(aliased_import) @imports.aliased_import
(import_from_statement module_name: (relative_import)) @imports.relative_import
(wildcard_import) @imports.wildcard_import
(future_import_statement) @imports.future_import
(call function: [(identifier) (attribute)] @_import (#match? @_import "(^|\\.)(import_module|__import__)$")) @imports.dynamic_import
(if_statement condition: [(identifier) (attribute)] @_checking (#match? @_checking "(^|\\.)TYPE_CHECKING$")) @imports.type_checking_import
(assignment left: (identifier) @_all (#eq? @_all "__all__")) @imports.export_list

(class_definition) @classes.class
(class_definition superclasses: (argument_list [(identifier) (attribute)])) @classes.inheritance
(decorator [(identifier) (attribute) (call)] @_dataclass
  (#match? @_dataclass "^(dataclasses\\.)?dataclass\\b")) @classes.dataclass
(class_definition superclasses: (argument_list [(identifier) (attribute)] @_enum)
  (#match? @_enum "(^|\\.)(Str|Int)?(Enum|Flag)$")) @classes.enum
(class_definition superclasses: (argument_list [(identifier) (attribute)] @_abc) (#match? @_abc "(^|\\.)ABC$")) @classes.abstract_class
(class_definition superclasses: (argument_list [(identifier) (attribute) (subscript)] @_protocol)
  (#match? @_protocol "(^|\\.)Protocol\\b")) @classes.protocol
(class_definition superclasses: (argument_list [(identifier) (attribute)] @_record)
  (#match? @_record "(^|\\.)(TypedDict|NamedTuple)$")) @classes.typed_record
(class_definition superclasses: (argument_list [(identifier) (attribute)] @_model) (#match? @_model "(^|\\.)BaseModel$")) @classes.model
(class_definition superclasses: (argument_list (keyword_argument name: (identifier) @_meta)) (#eq? @_meta "metaclass")) @classes.metaclass
(function_definition name: (identifier) @_dunder (#match? @_dunder "^__\\w+__$")) @classes.special_method
(decorator (identifier) @_property (#eq? @_property "property")) @classes.property
(decorator (identifier) @_class (#eq? @_class "classmethod")) @classes.class_method
(decorator (identifier) @_static (#eq? @_static "staticmethod")) @classes.static_method
(decorator [(identifier) (attribute)] @_abstract (#match? @_abstract "(^|\\.)abstractmethod$")) @classes.abstract_method
(call function: (identifier) @_super (#eq? @_super "super")) @classes.super_call

(decorator) @metadata.decorator
(decorator (call)) @metadata.decorator_with_arguments
(function_definition body: (block . (expression_statement . (string)))) @metadata.docstring
(module . (expression_statement . (string))) @metadata.module_docstring
((comment) @metadata.suppressed_check (#match? @metadata.suppressed_check "type: ignore|noqa|pragma: no cover|pylint: disable"))
(assignment left: (identifier) @_version (#match? @_version "^__(version|author|license)__$")) @metadata.module_metadata
(global_statement) @metadata.global_statement
(if_statement condition: (comparison_operator . (identifier) @_name) (#eq? @_name "__name__")) @metadata.main_guard

(with_statement) @memory.context_manager
(function_definition name: (identifier) @_enter (#any-of? @_enter "__enter__" "__aenter__")) @memory.context_manager_class
(decorator [(identifier) (attribute)] @_manager (#match? @_manager "(^|\\.)(async)?contextmanager$")) @memory.context_manager_function
(assignment left: (identifier) @_slots (#eq? @_slots "__slots__")) @memory.slots
(delete_statement) @memory.delete
(call function: [(identifier) (attribute)] @_weak
  (#match? @_weak "^weakref\\.|(^|\\.)Weak(KeyDictionary|ValueDictionary|Set)$")) @memory.weak_reference
(decorator [(identifier) (attribute) (call)] @_cache (#match? @_cache "^(functools\\.)?(lru_cache|cache|cached_property)\\b")) @memory.cache
(call function: (identifier) @_bytes (#any-of? @_bytes "memoryview" "bytearray")) @memory.byte_buffer
(generator_expression) @memory.generator_expression
