interface Before {
  a: string;
}

interface Broken {
  a: string;
  b: : number;
  c: boolean;
}

interface After {
  c: Before;
}

type Refers = { broken: Broken };
