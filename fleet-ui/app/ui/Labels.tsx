/** Labels as chips; more than `most` are counted. */
import { Name } from "./Name";

export function Labels({ labels, most = 4 }: { labels: Readonly<Record<string, string>>; most?: number }) {
  const entries = Object.entries(labels).sort(([a], [b]) => a.localeCompare(b));
  return (
    <span className="chips">
      {entries.slice(0, most).map(([key, value]) => (
        <span className="chip" key={key}>
          <Name>{`${key}=${value}`}</Name>
        </span>
      ))}
      {entries.length > most && <span className="chip">+{entries.length - most}</span>}
    </span>
  );
}
