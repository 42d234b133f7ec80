/** Markdown that people wrote, with GitHub's tables, without HTML, pictures and addresses that run. */
import Markdown, { defaultUrlTransform } from "react-markdown";
import gfm from "remark-gfm";

/** Web and mail addresses, and places on the page; nothing that runs. */
const safe = (url: string) => (/^(https?:|mailto:|#)/i.test(url) ? defaultUrlTransform(url) : "");

export function CardText({ children }: { children: string }) {
  return (
    <div className="markdown" dir="auto">
      {/* HTML within it is shown as text; pictures from elsewhere would tell others who reads. */}
      <Markdown
        remarkPlugins={[gfm]}
        urlTransform={safe}
        disallowedElements={["img"]}
        components={{
          h1: "h3", h2: "h3", h3: "h4",
          // What is wider than the page is scrolled, by keys too.
          pre: ({ children: said }) => <pre tabIndex={0}>{said}</pre>,
          table: ({ children: rows }) => <div className="scroll-x" tabIndex={0}><table className="plain">{rows}</table></div>,
          // A head that says nothing heads nothing.
          th: ({ children: said, style }) => (said ? <th scope="col" style={style}>{said}</th> : <td />),
          // Nobody ticks a card.
          input: ({ checked }) => (checked ? "☑" : "☐"),
          a: ({ href, id, children: said, "aria-label": label }) => {
            if (!href) return <span>{said}</span>;
            const elsewhere = href.startsWith("#") ? {} : { rel: "noopener noreferrer nofollow", target: "_blank" };
            return <a href={href} id={id} aria-label={label} {...elsewhere}>{said}</a>;
          },
        }}
      >
        {children}
      </Markdown>
    </div>
  );
}
