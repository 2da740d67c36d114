from dataclasses import dataclass


@dataclass
class Good:
    a: int

    def method(self:
        return (1 +


@dataclass
class Bad:
    a: int
    b: = 3


@dataclass
class Also:
    good: Good
    bad: Bad
