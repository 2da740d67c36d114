// Unions, literals, nullable types, enums, template literals.
type Level = "low" | "high" | 3 | -1.5 | true;
type Maybe = string | null;
type Flag = "on" | null;

enum Color {
  Red,
  Green = 5,
  Blue,
}

const enum Bits {
  None = 0,
  Read = 1 << 0,
  Write = 1 << 1,
  Both = Read | Write,
}

enum Names {
  A = "a",
  "B b" = 'b\u0042',
}

interface Circle {
  kind: "circle";
  radius: number;
}

interface Square {
  kind: "square";
  side: number;
}

type Figure = Circle | Square | null;

interface Mixed {
  color: Color;
  only: Color.Blue;
  bits?: Bits | null;
  figure: Figure;
  mode: "a" | "b" | { custom: string };
  maybe: Maybe;
  version: `v${number}`;
  route: `/${"users" | "posts"}/${string}`;
}
