// Types that contain themselves, and types that are nothing but themselves.
interface Tree {
  value: number;
  children: Tree[];
}

interface Employee {
  name: string;
  department: Department | null;
}

interface Department {
  head: Employee;
}

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

type Loop = Loop;
type Ping = Pong | null;
type Pong = Ping | string;
