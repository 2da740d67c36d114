// Utility types, generics, mapped types, lookups, intersections, brands.
interface User {
  id: UserId;
  name: string;
  email?: string | null;
  roles: Role[];
}

type UserId = string & { readonly __brand: "UserId" };
type Role = "admin" | "guest";

type Patch = Partial<User>;
type Card = Pick<User, "id" | "name">;
type Rest = Omit<User, keyof Card>;
type Full = Required<User>;
type Sure = NonNullable<User["email"]>;
type ByRole = Record<Role, number>;
type SomeByRole = { [R in Role]?: boolean };
type Scores = Record<string, number[]>;
type Both = User & { age: number };
type Either = { id: number } & ({ a: string } | { b: string });
type RoleOf = User["roles"][number];

interface Page<T, E = string> {
  items: T[];
  next: number | null;
  error?: E;
}

type Users = Page<User>;
type Numbers = Readonly<Page<number, Role>>;

type Pair = [string, number];
type Named = [name: string, count?: number];
type AtLeastOne = [number, ...number[]];
type Matrix = ReadonlyArray<Array<number>>;
type Frozen = readonly string[];
