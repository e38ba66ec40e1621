/** Line and bar plots as SVG text, for docs/: no more than the plots of the simulation need. */

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [number, number])[];
  /** A broken line without marks. */
  readonly dashed?: boolean;
  /** Default true, both. */
  readonly line?: boolean;
  readonly marks?: boolean;
}

export interface PlotOptions {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly series: readonly Series[];
  /** Logarithmic y axis. */
  readonly log?: boolean;
  /** Logarithmic x axis; all x must be positive. */
  readonly logX?: boolean;
  /** Where the y axis begins; default 0, or the smallest value on a logarithmic one. */
  readonly yFrom?: number;
  /** Where it ends; default a little above the largest value. */
  readonly yTo?: number;
}

const width = 720;
const height = 400;
const left = 70;
const right = 170;
const top = 44;
const bottom = 52;
const colors = ['#0b5fa5', '#c2410c', '#15803d', '#7e22ce', '#a16207', '#0f766e', '#be185d', '#475569', '#000000'];

export function plot(options: PlotOptions): string {
  const all = options.series.flatMap(({ points }) => points);
  const xs = all.map(([x]) => x);
  const ys = all.map(([, y]) => y);
  const scaleX = options.logX ? Math.log10 : (value: number) => value;
  const xFrom = scaleX(Math.min(...xs));
  const xTo = scaleX(Math.max(...xs));
  const scale = options.log ? Math.log10 : (value: number) => value;
  const smallest = Math.min(...ys.filter((y) => y > 0));
  const yFrom = scale(options.yFrom ?? (options.log ? smallest : 0));
  const yTo =
    options.yTo === undefined ? scale(Math.max(...ys)) + (scale(Math.max(...ys)) - yFrom) * 0.05 : scale(options.yTo);
  const px = (x: number) => left + ((scaleX(x) - xFrom) / (xTo - xFrom || 1)) * (width - left - right);
  const py = (y: number) =>
    height -
    bottom -
    ((Math.max(yFrom, scale(Math.max(y, smallest / 10))) - yFrom) / (yTo - yFrom || 1)) * (height - top - bottom);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<title>${escapeXml(options.title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    `<text x="${left}" y="24" font-size="15" font-weight="bold">${escapeXml(options.title)}</text>`,
    `<text x="${(left + width - right) / 2}" y="${height - 12}" text-anchor="middle">${escapeXml(options.x)}</text>`,
    `<text transform="translate(16 ${(top + height - bottom) / 2}) rotate(-90)" text-anchor="middle">${escapeXml(options.y)}</text>`,
  ];
  for (const x of options.logX ? powersOfTen(xFrom, xTo) : niceTicks(xFrom, xTo)) {
    parts.push(`<text x="${px(x).toFixed(1)}" y="${height - bottom + 18}" text-anchor="middle">${format(x)}</text>`);
  }
  for (const value of options.log ? logTicks(yFrom, yTo) : niceTicks(yFrom, yTo)) {
    const y = height - bottom - ((scale(value) - yFrom) / (yTo - yFrom || 1)) * (height - top - bottom);
    parts.push(`<line x1="${left}" x2="${width - right}" y1="${y.toFixed(1)}" y2="${y.toFixed(1)}" stroke="#e5e7eb"/>`);
    parts.push(`<text x="${left - 6}" y="${(y + 4).toFixed(1)}" text-anchor="end">${format(value)}</text>`);
  }
  options.series.forEach(({ name, points, dashed = false, line = true, marks = !dashed }, i) => {
    const color = colors[i % colors.length]!;
    const path = points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(' ');
    const dashes = dashed ? ' stroke-dasharray="5 4"' : '';
    if (line) parts.push(`<polyline points="${path}" fill="none" stroke="${color}" stroke-width="2"${dashes}/>`);
    for (const [x, y] of marks ? points : [])
      parts.push(`<circle cx="${px(x).toFixed(1)}" cy="${py(y).toFixed(1)}" r="3" fill="${color}"/>`);
    const at = top + 10 + i * 20;
    parts.push(`<rect x="${width - right + 14}" y="${at - 9}" width="12" height="12" fill="${color}"/>`);
    parts.push(`<text x="${width - right + 32}" y="${at + 1}">${escapeXml(name)}</text>`);
  });
  return `${parts.join('\n')}\n</svg>\n`;
}

/** Multiples of 1, 2 or 5 times a power of ten, about six of them. */
function niceTicks(from: number, to: number): number[] {
  const rough = (to - from || 1) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough)!;
  const first = Math.ceil(from / step - 1e-9);
  return Array.from({ length: Math.floor(to / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

/** The powers of ten from 10^from to 10^to. */
function powersOfTen(from: number, to: number): number[] {
  const first = Math.ceil(from - 1e-9);
  return Array.from({ length: Math.floor(to + 1e-9) - first + 1 }, (_, i) => 10 ** (first + i));
}

/** 1, 2 and 5 times the powers of ten between 10^from and 10^to. */
function logTicks(from: number, to: number): number[] {
  const powers = Array.from({ length: Math.ceil(to) - Math.floor(from) + 1 }, (_, i) => 10 ** (Math.floor(from) + i));
  return powers
    .flatMap((power) => [1, 2, 5].map((factor) => factor * power))
    .filter((value) => Math.log10(value) >= from - 1e-9 && Math.log10(value) <= to + 1e-9);
}

const format = (value: number): string => String(Number(value.toPrecision(3)));

const escapeXml = (text: string): string => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
