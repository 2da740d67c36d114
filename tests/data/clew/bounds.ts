// JSDoc tags that bound fields and aliases.

/**
 * A stock keeping unit.
 * @pattern ^[A-Z]+$
 * @maxLength 8
 */
type Sku = string;

interface Bounded {
  /** @minimum 0 @exclusiveMaximum 100 */
  percent: number;
  /** @type integer */
  count: number;
  /** @multipleOf 0.5 @exclusiveMinimum 0 */
  half: number;
  /** @format email */
  mail: string;
  /** @minLength 2 */
  sku: Sku;
  /** @maxLength 3 */
  maybe: string | null;
  /** @minItems 1 @maxItems 2 */
  tags: string[];
  /** @maxLength 9 */
  flag: boolean;
  /** @maxLength lots */
  broken: string;
  /** @format telephone */
  phone?: string;
}
