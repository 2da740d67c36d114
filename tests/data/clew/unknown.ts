// What is not known is never hard.
import { Address } from "./address";

interface Customer {
  name: string;
  address: Address;
}

interface Invoice {
  customer: Customer;
}

interface Fine {
  ok: boolean;
}

type Callback = (x: number) => void;
type Inferred = typeof process;
type Conditional<T> = T extends string ? 1 : 2;

interface UsesGeneric<T> {
  value: T;
}

interface Big {
  id: bigint;
  [Symbol.iterator]: string;
}

interface Twice {
  a: string;
}

interface Twice {
  b: string;
}

enum Computed {
  A = "a".length,
}
