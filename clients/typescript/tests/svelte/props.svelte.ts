// Properties of a component that a test may change.

export function props<T extends Record<string, unknown>>(given: T): Record<string, unknown> {
  let all = $state.raw<Record<string, unknown>>({ ...given });
  return new Proxy<Record<string, unknown>>({ ...given }, {
    get: (_, name) => all[name as string],
    set: (_, name, value) => {
      all = { ...all, [name as string]: value };
      return true;
    },
  });
}
