// Logging: an interface with four levels, a logger that writes to the console, and the log of messages.

/** Receives the log lines of the client. They never contain a token. */
export interface Logger {
  debug(message: string, fields?: object): void;
  info(message: string, fields?: object): void;
  warn(message: string, fields?: object): void;
  error(message: string, fields?: object): void;
  /**
   * Whether `debug` receives a line for each message that is sent or received: its type, channel, id and
   * offset, never its content.
   */
  readonly logsMessages?: boolean | undefined;
}

/** The level of a log line. */
export type Level = "debug" | "info" | "warn" | "error";

/** Returns a logger that writes lines of at least this level to the console. */
export function consoleLogger(level: Level = "info"): Logger {
  const write = (lineLevel: Level, severity: number) => (message: string, fields?: object) => {
    if (severity >= LEVELS.indexOf(level)) console[lineLevel](`hauyna: ${message}`, ...(fields ? [fields] : []));
  };
  const levels = Object.fromEntries(LEVELS.map((lineLevel, severity) => [lineLevel, write(lineLevel, severity)]));
  return { ...levels, logsMessages: level === "debug" } as unknown as Logger;
}

/** Logs a message that was sent or received. */
export type MessageLog = (direction: "sent" | "received", message: unknown) => void;

/** Returns a function that logs the header fields of messages, if the logger asks for them. */
export function messageLog(logger: Logger): MessageLog | undefined {
  if (!logger.logsMessages) return undefined;
  return (direction, message) => {
    const headers = Object.entries(Object(message) as object).filter(
      ([name, value]) => HEADER_FIELD.test(name) && typeof value !== "object",
    );
    const shortened = headers.map(([name, value]) => [name, typeof value === "string" ? value.slice(0, 64) : value]);
    logger.debug(direction, Object.fromEntries(shortened));
  };
}

const HEADER_FIELD = /^(type|channel|id|offset)$/;
const LEVELS: Level[] = ["debug", "info", "warn", "error"];
