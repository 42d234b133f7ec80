/** Markdown that people wrote, without HTML, pictures and addresses that run. */
import Markdown, { defaultUrlTransform } from "react-markdown";

/** Web and mail addresses, and places on the page; nothing that runs. */
const safe = (url: string) => (/^(https?:|mailto:|#)/i.test(url) ? defaultUrlTransform(url) : "");

export function CardText({ children }: { children: string }) {
  return (
    <div className="markdown" dir="auto">
      {/* HTML within it is shown as text; pictures from elsewhere would tell others who reads. */}
      <Markdown
        urlTransform={safe}
        disallowedElements={["img"]}
        components={{
          h1: "h3", h2: "h3", h3: "h4",
          // What is wider than the page is scrolled, by keys too.
          pre: ({ children: said }) => <pre tabIndex={0}>{said}</pre>,
          a: ({ href, children: said }) => (href ? <a href={href} rel="noopener noreferrer nofollow" target="_blank">{said}</a> : <span>{said}</span>),
        }}
      >
        {children}
      </Markdown>
    </div>
  );
}
