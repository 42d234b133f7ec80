/** A text as a QR code: black on white in both schemes, as cameras want it. */
import { useMemo } from "react";
import qrcode from "qrcode-generator";
import { text as words } from "~/text";
import "./enrol.css";

const QUIET = 4;
/** Names are in any script; the library's own way keeps the lowest byte of each character. */
qrcode.stringToBytes = (text) => [...new TextEncoder().encode(text)];

export function QrCode({ text }: { text: string }) {
  const { size, path } = useMemo(() => {
    const code = qrcode(0, "M");
    code.addData(text);
    code.make();
    const modules = code.getModuleCount();
    let path = "";
    for (let row = 0; row < modules; row++) {
      for (let column = 0; column < modules; column++) if (code.isDark(row, column)) path += `M${column + QUIET} ${row + QUIET}h1v1h-1z`;
    }
    return { size: modules + 2 * QUIET, path };
  }, [text]);
  return (
    <svg className="qr-code" viewBox={`0 0 ${size} ${size}`} role="img" aria-label={words.enrol.qr} shapeRendering="crispEdges">
      <rect width={size} height={size} fill="#fff" />
      <path d={path} fill="#000" />
    </svg>
  );
}
