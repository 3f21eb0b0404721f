// Grafana's types as JSON sees them: members of enumerations are their bare strings and numbers.
export type Plain<T> = T extends string
  ? `${T}`
  : T extends number
    ? number extends T
      ? number
      : `${T}` extends `${infer N extends number}`
        ? N
        : T
    : T extends object
      ? { [K in keyof T]: Plain<T[K]> }
      : T;
