"""Pydantic-style models."""
from decimal import Decimal
from typing import Annotated, Generic, List, Optional, TypeVar

from annotated_types import Ge, MaxLen
from pydantic import BaseModel, ConfigDict, EmailStr, Field, HttpUrl, PositiveInt, conint, conlist, constr

from .other import Imported

T = TypeVar("T")
LIMIT = 9


class Common(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: PositiveInt
    _cache: dict = {}


class Product(Common):
    name: str = Field(..., min_length=1, max_length=24, description="What it is called.")
    price: Decimal = Field(gt=0, le=1000)
    rating: Annotated[float, Field(ge=0, le=5, multiple_of=0.5)] = 0
    sku: Annotated[str, Field(pattern=r"^[A-Z]{3}\d$")]
    quantity: conint(ge=1, lt=10)
    code: constr(min_length=2, max_length=4) = "ab"
    tags: Annotated[List[str], Field(max_length=3)]
    pairs: conlist(int, min_length=1, max_length=2)
    maker: Optional[EmailStr]
    site: HttpUrl | None = None
    count: Annotated[int, Ge(1)] = Field(1, alias="itemCount")
    short: Annotated[str, MaxLen(5)]
    children: list["Product"] = []

    def total(self) -> float:
        return 1.0


class Stock(BaseModel):
    product: Product
    origin: Imported


class Shelf(BaseModel):
    stock: Stock


class Limited(BaseModel):
    n: int = Field(le=LIMIT)


class Page(BaseModel, Generic[T]):
    items: list[T]


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    some_name: str
