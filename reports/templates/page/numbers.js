// Numbers and arrays

// As reports.text writes them, to the last digit: rounded from the exact value, ties to even, a real
// minus sign. A test compares both on thousands of numbers.
const PARTS = new DataView(new ArrayBuffer(8));

// |value| * 10 ** decimals as the nearest whole number
function scaled(value, decimals) {
  PARTS.setFloat64(0, Math.abs(value));
  const bits = PARTS.getBigUint64(0);
  const exponent = Number(bits >> 52n);
  const fraction = bits & ((1n << 52n) - 1n);
  const power = Math.max(exponent, 1) - 1075;
  let top = exponent ? fraction | (1n << 52n) : fraction;
  let bottom = 1n;
  if (power < 0) bottom <<= BigInt(-power);
  else top <<= BigInt(power);
  if (decimals < 0) bottom *= 10n ** BigInt(-decimals);
  else top *= 10n ** BigInt(decimals);
  const [whole, rest] = [top / bottom, 2n * (top % bottom)];
  return whole + (rest > bottom || (rest === bottom && whole % 2n) ? 1n : 0n);
}

const pointed = (digits, decimals) => {
  const text = digits.padStart(decimals + 1, "0");
  return decimals ? `${text.slice(0, -decimals)}.${text.slice(-decimals)}` : text;
};

// So many decimals
function number(value, decimals) {
  if (Number.isNaN(value)) return "undefined";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : MINUS + "∞";
  const whole = scaled(value, decimals);
  const [front, ...back] = pointed(String(whole), decimals).split(".");
  const text = [front.replace(/\B(?=(\d{3})+$)/g, ","), ...back].join(".");
  return value < 0 && whole ? MINUS + text : text;
}

// So many significant digits; very small and very large ones as 1.5e−7
function significant(value, digits = 3) {
  if (!Number.isFinite(value) || value === 0) return number(value, 0);
  let exponent = Number(value.toExponential().split("e")[1]);
  const whole = String(scaled(value, digits - 1 - exponent));
  exponent += whole.length - digits; // 9.996 has become 10.0
  const kept = whole.replace(/0+$/, "");
  let text;
  if (exponent < SMALLEST || exponent >= LARGEST) {
    text = `${kept[0]}${kept.length > 1 ? "." : ""}${kept.slice(1)}e${exponent}`;
  } else if (exponent >= kept.length - 1) {
    text = kept.padEnd(exponent + 1, "0");
  } else {
    text = pointed(kept, kept.length - 1 - exponent);
  }
  return (value < 0 ? MINUS : "") + text.replace("-", MINUS);
}
const [SMALLEST, LARGEST] = [-4, 6]; // exponents of numbers that are written out

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}
const floats = (text) => new Float32Array(bytes(text));
const integers = (text) => new Uint32Array(bytes(text));

function halves(text) {
  return Float32Array.from(new Uint16Array(bytes(text)), (bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}
