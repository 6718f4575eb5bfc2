// Makes the objects of this client work behind proxies. State managers (Vue, MobX, a general Proxy) call
// methods with the proxy as `this`, and a proxy has no private members. The constructors of Client,
// ChannelReader and Roster call this.

/**
 * Defines on `object` its own copies of its classes' methods and getters, whose `this` is always `object`.
 */
export function bindMembers(object: object, from: object = Object.getPrototypeOf(object)): void {
  if (from === Object.prototype) return;
  // The base class is bound first, so that an overriding method wins.
  bindMembers(object, Object.getPrototypeOf(from));
  for (const [name, { value, get }] of Object.entries(Object.getOwnPropertyDescriptors(from))) {
    if (name === "constructor") continue;
    const bound = get ? { get: get.bind(object) } : { value: value.bind(object), writable: true };
    Object.defineProperty(object, name, { ...bound, configurable: true });
  }
}
