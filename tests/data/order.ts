/** What a customer pays with. */
export type Currency = "EUR" | "USD";

export enum Status {
  Open = "open",
  Paid = "paid",
  Shipped = "shipped",
}

export interface Customer {
  /** @minLength 1 @maxLength 24 @pattern ^[A-Za-z ]+$ */
  name: string;
  vip: boolean;
}

export interface Item {
  /** @pattern ^[A-Z]{3}-[0-9]{4}$ */
  sku: string;
  /** @integer @minimum 1 @maximum 99 */
  quantity: number;
}

/** An order as the shop sends it. */
export interface Order {
  /** @pattern ^ord_[0-9]{6}$ */
  id: string;
  customer: Customer;
  status: Status;
  currency: Currency;
  /** @minItems 1 @maxItems 3 */
  items: Item[];
  /** @maxLength 40 @pattern ^[A-Za-z0-9 ,.]*$ */
  note?: string;
}
