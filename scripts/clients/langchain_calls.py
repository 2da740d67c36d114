"""The calls of LangChain's OpenAI wrapper (langchain-openai): chats, completions, embeddings."""

import asyncio
import re
from typing import Literal

import openai
import pydantic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

from calls import ORDER, ORDER_FORMAT, PREFIX, SUFFIX
from rows import Suite, Target, valid

SUITE = Suite("LangChain")
works, refused = SUITE.works, SUITE.refused
QUESTION = "What is the weather in Rome?"


class Order(pydantic.BaseModel):
    """An order."""

    id: int = pydantic.Field(ge=1, le=9999)
    status: Literal["open", "paid", "sent"]
    items: list[str] = pydantic.Field(max_length=3)


@tool
def weather(city: str, unit: Literal["C", "F"]) -> str:
    """The weather in a city."""
    return f"17 {unit} in {city}"


@tool
def zone(name: str) -> str:
    """The time in a zone."""
    return f"noon in {name}"


def server_of(target: Target) -> dict:
    return {"model": target.model, "base_url": f"{target.url}/v1", "api_key": target.keys["main"], "max_retries": 0}


def chat(target: Target, **fields) -> ChatOpenAI:
    return ChatOpenAI(**{**server_of(target), "max_tokens": 96, "seed": 7, **fields})


def respond(target: Target, **fields) -> ChatOpenAI:
    """The same over /v1/responses."""
    return ChatOpenAI(**{**server_of(target), "max_tokens": 96, "use_responses_api": True, **fields})


def llm(target: Target, **fields) -> OpenAI:
    return OpenAI(**{**server_of(target), "max_tokens": 24, "seed": 7, **fields})


def check_calls(message: AIMessage) -> str:
    """Calls of tools that exist, which run with their arguments."""
    assert message.tool_calls and not message.invalid_tool_calls, message
    tools = {"weather": weather, "zone": zone}
    return ", ".join(tools[call["name"]].invoke(call["args"]) for call in message.tool_calls)


# --- ChatOpenAI ---


@works("ChatOpenAI.invoke")
def invoke(target):
    reply = chat(target).invoke(QUESTION)
    assert reply.content and reply.usage_metadata["output_tokens"] > 0, reply
    assert reply.response_metadata["finish_reason"] in ("stop", "length"), reply


@works("ChatOpenAI.invoke, system, user and assistant messages")
def invoke_messages(target):
    messages = [
        SystemMessage("Be brief."),
        HumanMessage("Hi"),
        AIMessage("Hello"),
        HumanMessage([{"type": "text", "text": "?"}]),
    ]
    assert chat(target).invoke(messages).usage_metadata["input_tokens"] > 0


@works("ChatOpenAI.stream")
def stream(target):
    chunks = list(chat(target).stream(QUESTION))
    assert "".join(chunk.content for chunk in chunks) == chat(target).invoke(QUESTION).content
    return f"{len(chunks)} chunks"


@works("ChatOpenAI.stream, stream_usage")
def stream_usage(target):
    whole = None
    for chunk in chat(target, stream_usage=True).stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    assert whole.usage_metadata["total_tokens"] == chat(target).invoke(QUESTION).usage_metadata["total_tokens"]


@works("ChatOpenAI.batch")
def batch(target):
    questions = [f"{QUESTION} {number}" for number in range(6)]
    together = [reply.content for reply in chat(target).batch(questions)]
    assert together == [chat(target).invoke(question).content for question in questions]


@works("ChatOpenAI.ainvoke, astream, abatch, astream_events")
def asynchronous(target):
    async def ask():
        model = chat(target)
        one = (await model.ainvoke(QUESTION)).content
        streamed = "".join([chunk.content async for chunk in model.astream(QUESTION)])
        many = [reply.content for reply in await model.abatch([QUESTION, QUESTION])]
        kinds = {event["event"] async for event in model.astream_events(QUESTION, version="v2")}
        return one, streamed, many, kinds

    one, streamed, many, kinds = asyncio.run(ask())
    assert streamed == one and many == [one, one], (one, streamed, many)
    assert {"on_chat_model_start", "on_chat_model_stream", "on_chat_model_end"} <= kinds, kinds


@works("ChatOpenAI.generate, n=2")
def generate(target):
    replies = chat(target, n=2, temperature=1.0).generate([[HumanMessage(QUESTION)]]).generations[0]
    assert len({reply.text for reply in replies}) == 2, replies


@works("ChatOpenAI, stop, temperature, top_p, penalties, logprobs, logit_bias")
def sampling(target):
    fields = {"temperature": 0.5, "top_p": 0.9, "presence_penalty": 0.1, "frequency_penalty": 0.1, "stop": ["\n\n"]}
    reply = chat(target, logprobs=True, top_logprobs=2, logit_bias={"300": -100}, **fields).invoke(QUESTION)
    assert reply.response_metadata["logprobs"]["content"] and "\n\n" not in reply.content, reply


@works("prompt | ChatOpenAI | StrOutputParser, streamed")
def chain(target):
    made = (
        ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{question}")])
        | chat(target)
        | StrOutputParser()
    )
    assert "".join(made.stream({"question": QUESTION})) == made.invoke({"question": QUESTION})


@works("ChatOpenAI.bind(response_format=json_schema) | JsonOutputParser")
def chain_json(target):
    made = chat(target, max_tokens=120).bind(response_format=ORDER_FORMAT)
    valid(ORDER, made.invoke(QUESTION).content)
    assert set((made | JsonOutputParser()).invoke(QUESTION)) == {"id", "status", "items"}


@works("ChatOpenAI.with_structured_output, json_schema, pydantic")
def structured(target):
    model = chat(target, max_tokens=120).with_structured_output(Order, include_raw=True)
    reply = model.invoke(QUESTION)
    assert isinstance(reply["parsed"], Order) and reply["parsing_error"] is None, reply
    valid(Order.model_json_schema(), reply["raw"].content)


@works("ChatOpenAI.with_structured_output, json_schema, a JSON Schema, strict, streamed")
def structured_schema(target):
    schema = {"title": "order", "description": "An order.", **ORDER}
    model = chat(target, max_tokens=120).with_structured_output(schema, strict=True)
    last = list(model.stream(QUESTION))[-1]
    assert set(last) == {"id", "status", "items"} and 1 <= last["id"] <= 9999, last


@works("ChatOpenAI.with_structured_output, function_calling")
def structured_call(target):
    model = chat(target, max_tokens=120).with_structured_output(Order, method="function_calling")
    assert isinstance(model.invoke(QUESTION), Order)


@works("ChatOpenAI.with_structured_output, json_mode")
def structured_mode(target):
    model = chat(target, max_tokens=120).with_structured_output(None, method="json_mode")
    assert isinstance(model.invoke(f"{QUESTION} As JSON."), dict)


@works("ChatOpenAI.bind_tools, auto")
def tools_auto(target):
    reply = chat(target).bind_tools([weather, zone]).invoke(QUESTION)
    return check_calls(reply) if reply.tool_calls else "prose"


@works("ChatOpenAI.bind_tools, tool_choice=any")
def tools_any(target):
    return check_calls(chat(target).bind_tools([weather, zone], tool_choice="any").invoke(QUESTION))


@works("ChatOpenAI.bind_tools, tool_choice=NAME, strict, one call")
def tools_named(target):
    model = chat(target).bind_tools([weather, zone], tool_choice="zone", strict=True, parallel_tool_calls=False)
    assert [call["name"] for call in model.invoke(QUESTION).tool_calls] == ["zone"]


@works("ChatOpenAI.bind_tools, streamed")
def tools_stream(target):
    whole = None
    for chunk in chat(target).bind_tools([weather, zone], tool_choice="any").stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    return check_calls(whole)


@works("ChatOpenAI.bind_tools, results sent back")
def tools_results(target):
    model = chat(target)
    first = model.bind_tools([weather, zone], tool_choice="any").invoke(QUESTION)
    results = [ToolMessage(content="17", tool_call_id=call["id"]) for call in first.tool_calls]
    last = model.bind_tools([weather, zone], tool_choice="none").invoke([HumanMessage(QUESTION), first, *results])
    assert last.content and not last.tool_calls, last


@works("ChatOpenAI, constraints by extra_body")
def constraints(target):
    reply = chat(target, extra_body={"structured_outputs": {"regex": "[a-z]{5}"}}).invoke(QUESTION)
    assert re.fullmatch("[a-z]{5}", reply.content), reply


@works("ChatOpenAI, a timeout of the client")
def timeout(target):
    slow = {"structured_outputs": {"regex": "[a-z ]{1500,}"}}
    try:
        chat(target, timeout=0.05, max_tokens=400, extra_body=slow).invoke(QUESTION)
    except openai.APITimeoutError:
        target.settle()
    else:
        raise AssertionError("answered within 50 ms")


@works("ChatOpenAI.stream, left in its middle")
def cancelled(target):
    slow = {"structured_outputs": {"regex": "[a-z ]{1500,}"}}
    chunks = chat(target, max_tokens=400, extra_body=slow).stream(QUESTION)
    for _, _ in zip(range(4), chunks, strict=False):
        pass
    chunks.close()
    target.settle()


image = [HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}])]
refused(
    "ChatOpenAI, reasoning_effort",
    "400 unsupported_parameter",
    lambda t: chat(t, reasoning_effort="low").invoke(QUESTION),
)
refused("ChatOpenAI, image", "400 unsupported_parameter", lambda t: chat(t).invoke(image))
refused(
    "ChatOpenAI, tools beside a schema",
    "400 unsupported_parameter",
    lambda t: chat(t).bind_tools([zone], strict=True, response_format=Order).invoke(QUESTION),
)
refused(
    "ChatOpenAI, unknown field by extra_body",
    "400 unknown_parameter",
    lambda t: chat(t, extra_body={"no_such_field": 1}).invoke(QUESTION),
)
refused("ChatOpenAI, wrong key", "401 invalid_api_key", lambda t: chat(t, api_key="sk-wrong").invoke(QUESTION))
refused("ChatOpenAI, wrong model", "404 model_not_found", lambda t: chat(t, model="gpt-4o").invoke(QUESTION))
refused("ChatOpenAI, prompt too long", "400 context_length_exceeded", lambda t: chat(t).invoke("word " * 20000))

# --- ChatOpenAI over /v1/responses ---


@works("ChatOpenAI, use_responses_api: invoke")
def response(target):
    reply = respond(target).invoke(QUESTION)
    assert reply.text and reply.usage_metadata["output_tokens"] > 0, reply


@works("ChatOpenAI, use_responses_api: stream")
def response_stream(target):
    chunks = list(respond(target).stream(QUESTION))
    assert "".join(chunk.text for chunk in chunks), chunks


@works("ChatOpenAI, use_responses_api: with_structured_output")
def response_structured(target):
    assert isinstance(respond(target, max_tokens=120).with_structured_output(Order).invoke(QUESTION), Order)


@works("ChatOpenAI, use_responses_api: bind_tools, results sent back")
def response_tools(target):
    model = respond(target)
    first = model.bind_tools([weather, zone], tool_choice="any").invoke(QUESTION)
    check_calls(first)
    results = [ToolMessage(content="17", tool_call_id=call["id"]) for call in first.tool_calls]
    assert model.bind_tools([weather, zone], tool_choice="none").invoke([HumanMessage(QUESTION), first, *results]).text


refused(
    "ChatOpenAI, use_responses_api: reasoning",
    "400 unsupported_parameter",
    lambda t: respond(t, reasoning={"effort": "low"}).invoke(QUESTION),
)

# --- OpenAI, the completion model ---


@works("OpenAI.invoke")
def completion(target):
    assert llm(target).invoke("def add(a, b):\n")


@works("OpenAI.stream")
def completion_stream(target):
    assert "".join(llm(target).stream("def add(a, b):\n")) == llm(target).invoke("def add(a, b):\n")


@works("OpenAI.batch")
def completion_batch(target):
    prompts = ["def a(", "class B", "import "]
    assert len(llm(target).batch(prompts)) == 3


@works("OpenAI.generate, n, best_of, logprobs")
def completion_generate(target):
    made = llm(target, n=2, best_of=3, temperature=1.0, logprobs=1).generate(["def a("]).generations[0]
    assert len(made) == 2 and made[0].generation_info["logprobs"]["tokens"], made


@works("OpenAI.invoke, stop, logit_bias, penalties")
def completion_more(target):
    fields = {"logit_bias": {"300": -100}, "presence_penalty": 0.1, "frequency_penalty": 0.1}
    assert "\n" not in llm(target, **fields).invoke("def a(", stop=["\n"])


@works("OpenAI.invoke, suffix by model_kwargs")
def completion_suffix(target):
    assert isinstance(llm(target, model_kwargs={"suffix": SUFFIX}).invoke(PREFIX), str)


@works("OpenAI.invoke, constraints by extra_body")
def completion_constraints(target):
    text = llm(target, extra_body={"structured_outputs": {"choice": ["yes", "no"]}}).invoke("Is it?")
    assert text in ("yes", "no"), text


refused("OpenAI, wrong key", "401 invalid_api_key", lambda t: llm(t, api_key="sk-wrong").invoke("x"))
refused("OpenAI, wrong model", "404 model_not_found", lambda t: llm(t, model="davinci-002").invoke("x"))
refused(
    "OpenAIEmbeddings.embed_query",
    "404 unsupported_endpoint",
    lambda t: OpenAIEmbeddings(**server_of(t), check_embedding_ctx_length=False).embed_query("x"),
)
