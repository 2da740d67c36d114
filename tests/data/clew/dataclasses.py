"""Dataclasses and enums."""
from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, ClassVar, Literal, Optional, Union
from uuid import UUID


class Status(str, enum.Enum):
    OPEN = "open"
    PAID = "paid"
    DEFAULT = OPEN


class Level(enum.IntEnum):
    LOW = enum.auto()
    MID = 5
    HIGH = enum.auto()


class Kind(enum.StrEnum):
    First_One = enum.auto()
    SECOND = "2nd"

    def label(self) -> str:
        return self.value.title()


@dataclass
class Base:
    id: UUID
    made: datetime


@dataclasses.dataclass(frozen=True)
class Item(Base):
    registry: ClassVar[dict[str, "Item"]] = {}
    name: str
    price: float
    tags: list[str] = field(default_factory=list)
    status: Status = Status.OPEN
    level: Level | None = None
    parent: Optional["Item"] = None
    size: tuple[int, int] = (1, 1)
    anything: Any = None


@dataclass
class Order:
    items: "list[Item]"
    due: date
    kind: Kind
    mode: Literal["fast", "slow", 3, None]
    by_name: dict[str, Item]
    by_number: dict[int, str]
    by_status: dict[Status, int]
    either: Union[int, str, None]
    many: tuple[float, ...]
    unique: set[str]


class Plain:
    x: int
