import json
from dataclasses import dataclass, field


@dataclass
class OrderQQ:
    """An order, number QQ."""

    number: int
    items: list[str] = field(default_factory=list)
    note: str | None = None


async def load_order_QQ(path: str, limit: int = 10) -> OrderQQ:
    """Reads an order.

    Raises:
        ValueError: if it is none.
    """
    with open(path) as file:
        try:
            return OrderQQ(**json.load(file))
        except TypeError as error:
            raise ValueError(f"order QQ cannot be read: {error}") from error

