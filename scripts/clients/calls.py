"""What several clients send: the same chats, tools, schemas and constraints, so that rows can be compared."""

CHAT = [{"role": "user", "content": "What is the weather in Rome?"}]

ORDER = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1, "maximum": 9999},
        "status": {"enum": ["open", "paid", "sent"]},
        "items": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
    },
    "required": ["id", "status", "items"],
    "additionalProperties": False,
}
ORDER_FORMAT = {"type": "json_schema", "json_schema": {"name": "order", "strict": True, "schema": ORDER}}

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TIME = {
    "type": "object",
    "properties": {"zone": {"type": "string", "maxLength": 6}},
    "required": ["zone"],
    "additionalProperties": False,
}
PARAMETERS = {"weather": WEATHER, "time": TIME}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": f"The {name}.", "parameters": parameters}}
    for name, parameters in PARAMETERS.items()
]
RESPONSE_TOOLS = [{"type": "function", "strict": True, **tool["function"]} for tool in TOOLS]

# A constraint set: the output is a Python file that imports nothing but `json` and `math`.
PYTHON_RULES = {
    "constraints": [
        {
            "name": "language",
            "kind": "syntactic",
            "source": "user_defined",
            "rule": {"type": "language", "language": "python", "granularity": "file"},
        },
        {
            "name": "imports",
            "kind": "architectural",
            "source": "user_defined",
            "rule": {"type": "imports", "allow": ["json", "math"]},
        },
    ]
}
PREFIX = "def add(a, b):\n    "
SUFFIX = "\n\nprint(add(1, 2))\n"
