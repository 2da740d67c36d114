// Object types: inheritance, optional and readonly fields, index signatures, methods.
interface Named {
  /** What people call it. */
  readonly name: string;
  note?: string;
}

interface Point extends Named {
  x: number;
  y: number;
  label: string | undefined;
  onMove(dx: number): void;
  listener?: () => void;
}

interface Narrow extends Named {
  name: "origin";
  extra: null;
}

interface Counts {
  [word: string]: number;
}

interface Sparse {
  [index: number]: string;
}

interface Headers {
  [key: `x-${string}`]: string;
  host: string;
}

type Empty = {};

interface Quoted {
  "content-type": string;
  42: boolean;
  anything: any;
  object: object;
}

declare namespace Inner {
  interface Deep {
    at: Date;
  }
}
