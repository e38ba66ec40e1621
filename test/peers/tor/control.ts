/** What the comparison needs of Tor's control protocol (control-spec): cookie authentication and building circuits. */
import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

export class TorControl {
  readonly #socket: Socket;
  #onLine: (line: string) => void = () => {};
  #onClose: (error: Error) => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    createInterface({ input: socket }).on('line', (line) => this.#onLine(line));
    socket.on('error', (error) => this.#onClose(error));
    socket.on('close', () => this.#onClose(new Error('the control connection closed')));
  }

  /** `path` is that of the client's ControlSocket. */
  static async connect(path: string, cookieFile: string): Promise<TorControl> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    const control = new TorControl(socket);
    await control.#command(`AUTHENTICATE ${(await readFile(cookieFile)).toString('hex')}`);
    await control.#command('SETEVENTS CIRC');
    return control;
  }

  /** EXTENDCIRCUIT 0 over `path` (fingerprints with `$`), waits for BUILT, closes it again. Rejects when it fails. */
  async buildCircuitMs(path: readonly string[], timeoutMs: number): Promise<number> {
    const start = performance.now();
    let circuit: string | undefined;
    const built = await this.#exchange(`EXTENDCIRCUIT 0 ${path.join(',')}`, timeoutMs, (line, done, fail) => {
      const extended = /^250 EXTENDED (\d+)/.exec(line);
      if (extended) circuit = extended[1];
      else if (/^[45]\d\d /.test(line)) fail(line);
      const event = /^650 CIRC (\d+) (\w+)/.exec(line);
      if (event && event[1] === circuit) {
        if (event[2] === 'BUILT') done(performance.now() - start);
        else if (event[2] === 'FAILED' || event[2] === 'CLOSED') fail(line);
      }
    });
    await this.#command(`CLOSECIRCUIT ${circuit}`);
    return built;
  }

  /** Closes every connection of this Tor; it makes new ones at once. */
  async reconnect(): Promise<void> {
    await this.#command('SETCONF DisableNetwork=1');
    await this.#command('SETCONF DisableNetwork=0');
  }

  close(): void {
    this.#socket.destroy();
  }

  async #command(command: string): Promise<void> {
    await this.#exchange(command, 10_000, (line, done, fail) => {
      if (line.startsWith('250 ')) done(0);
      else if (/^[45]\d\d /.test(line)) fail(line);
    });
  }

  #exchange(
    command: string,
    timeoutMs: number,
    onLine: (line: string, done: (value: number) => void, fail: (why: string) => void) => void,
  ): Promise<number> {
    return new Promise((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer);
        this.#onLine = () => {};
        this.#onClose = () => {};
        act();
      };
      const fail = (why: string) => settle(() => reject(new Error(`tor control, ${command.split(' ')[0]}: ${why}`)));
      const timer = setTimeout(() => fail(`no answer in ${timeoutMs} ms`), timeoutMs);
      this.#onClose = (error) => fail(error.message);
      this.#onLine = (line) => onLine(line, (value) => settle(() => resolve(value)), fail);
      this.#socket.write(`${command}\r\n`);
    });
  }
}
