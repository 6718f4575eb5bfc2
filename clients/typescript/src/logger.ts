// Where the client tells what it does: an interface of four levels, and one that writes to the console.

/** Takes what the client tells about itself. Never gets a token. */
export interface Logger {
  debug(message: string, fields?: object): void;
  info(message: string, fields?: object): void;
  warn(message: string, fields?: object): void;
  error(message: string, fields?: object): void;
}

/** How much is told. */
export type Level = keyof Logger;

/** Writes to the console what is at least as grave as `level`. */
export function consoleLogger(level: Level = "info"): Logger {
  const write = (at: Level, grade: number) => (message: string, fields?: object) => {
    if (grade >= LEVELS.indexOf(level)) console[at](`hauyna: ${message}`, ...(fields ? [fields] : []));
  };
  return Object.fromEntries(LEVELS.map((at, grade) => [at, write(at, grade)])) as unknown as Logger;
}

const LEVELS: Level[] = ["debug", "info", "warn", "error"];
