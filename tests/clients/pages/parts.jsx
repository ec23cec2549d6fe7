// What a chat looks like, whichever client keeps it.

import { StrictMode, useEffect, useRef, useState } from "react"
import { createRoot } from "react-dom/client"
import "./style.css"

const LABELS = {
  writing: "writing",
  running: "running",
  asking: "needs your approval",
  done: "done",
  failed: "failed",
  denied: "denied",
}

/** Show a page; where its chat is kept and under which id stands in the address: `?api=/ag-ui&chat=1`. */
export function show(Chat, api) {
  const query = new URLSearchParams(location.search)
  createRoot(document.getElementById("root")).render(
    <StrictMode>
      <Chat api={query.get("api") ?? api} id={query.get("chat") ?? undefined} />
    </StrictMode>,
  )
}

export function Page({ title, children, isBusy, error, onSend, onStop }) {
  const [input, setInput] = useState("")
  const end = useRef(null)
  useEffect(() => {
    end.current.scrollIntoView({ block: "end" })
  })

  function submit(event) {
    event.preventDefault()
    if (!input.trim()) return
    onSend(input.trim())
    setInput("")
  }

  return (
    <>
      <header>
        <h1>{title}</h1>
        <span>answered by chatstream</span>
      </header>
      <main aria-busy={isBusy}>
        {children}
        {isBusy && <p className="waiting" role="status" aria-label="The answer is being written" />}
        {error && (
          <p className="error" role="alert">
            {error.message}
          </p>
        )}
        <div ref={end} />
      </main>
      <form onSubmit={submit}>
        <input
          value={input}
          onChange={(event) => setInput(event.target.value)}
          placeholder="Ask something"
          aria-label="Message"
        />
        {isBusy ? (
          <button type="button" className="stop" onClick={onStop}>
            Stop
          </button>
        ) : (
          <button disabled={!input.trim()}>Send</button>
        )}
      </form>
    </>
  )
}

export function Message({ role, children }) {
  return <article className={role}>{children}</article>
}

export function Text({ children }) {
  return children ? <p className="text">{children}</p> : null
}

export function Reasoning({ children, isOpen }) {
  return children ? (
    <details className="reasoning" open={isOpen}>
      <summary>{isOpen ? "Thinking" : "Thought"}</summary>
      <p>{children}</p>
    </details>
  ) : null
}

/** `state` is a key of LABELS; `onDecide` is called with whether the call may run. */
export function ToolCall({ name, state, input, output, onDecide }) {
  return (
    <section className={`tool ${state}`} aria-label={`Tool ${name}`}>
      <h2>
        <code>{name}</code>
        <span className="state">{LABELS[state]}</span>
      </h2>
      {input !== undefined && <pre className="input">{told(input)}</pre>}
      {output !== undefined && <pre className="output">{told(output)}</pre>}
      {state === "asking" && (
        <div className="decision">
          <button onClick={() => onDecide(true)}>Approve</button>
          <button className="deny" onClick={() => onDecide(false)}>
            Deny
          </button>
        </div>
      )}
    </section>
  )
}

function told(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 1).replace(/\n */g, " ")
}
