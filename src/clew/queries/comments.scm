; Comments, for the documentation that stands before a declaration or a field.
(comment) @comment
