"""TypedDict, NewType, aliases, NamedTuple."""
from typing import Annotated, Literal, NamedTuple, NewType, NotRequired, Required, TypeAlias, TypedDict

UserId = NewType("UserId", int)
Mode = Literal["a", "b"]
Names: TypeAlias = "list[str]"
type Matrix = list[list[float]]


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Options(TypedDict, total=False):
    verbose: bool
    name: Required[str]
    mode: Mode
    user: UserId


class Sequel(Movie):
    of: Movie


Legacy = TypedDict("Legacy", {"content-type": str, "size": NotRequired[int]})


class Point(NamedTuple):
    x: float
    y: float
    label: str = ""


COUNT = 3
LOOKUP = {"a": 1}
