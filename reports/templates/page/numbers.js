// Numbers and arrays

// As reports.text.number: so many decimals, ties to even, a real minus sign.
function number(value, digits) {
  if (Number.isNaN(value)) return "undefined";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : MINUS + "∞";
  const scaled = Math.abs(value) * 10 ** digits;
  const floor = Math.floor(scaled);
  const even = scaled - floor === 0.5 ? floor + (floor % 2) : null;
  let text = even === null ? Math.abs(value).toFixed(digits) : (even / 10 ** digits).toFixed(digits);
  if (value < 0 && Number(text) !== 0) text = MINUS + text;
  return text;
}

function significant(value, digits = 3) {
  if (!Number.isFinite(value)) return number(value, 0);
  return String(Number(value.toPrecision(digits))).replace("-", MINUS);
}

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
