import { readFile } from "node:fs/promises";

/** An order, number QQ. */
export interface OrderQQ {
  id: string;
  items: ItemQQ[];
  note?: string | null;
}

export type ItemQQ = { sku: string; quantity: number };

export async function loadOrderQQ(path: string, limit = 10): Promise<OrderQQ> {
  const text = await readFile(path, "utf8");
  try {
    const order = JSON.parse(text) as OrderQQ;
    return { ...order, items: order.items.filter((item) => item.quantity > 0).slice(0, limit) };
  } catch (error) {
    throw new Error(`order QQ cannot be read: ${String(error)}`);
  }
}

export const totalQQ = (order: OrderQQ): number =>
  order.items.reduce((sum, item) => sum + item.quantity, 0);

