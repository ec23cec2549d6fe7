// A page of TanStack AI: `useChat` and `fetchServerSentEvents` as its tutorials have them.
// https://tanstack.com/ai/latest/docs/getting-started/quick-start

import { fetchServerSentEvents, useChat } from "@tanstack/ai-react"
import { Message, Page, Reasoning, show, Text, ToolCall } from "./parts.jsx"

const STATES = {
  "awaiting-input": "writing",
  "input-streaming": "writing",
  "input-complete": "running",
  "approval-requested": "asking",
  "approval-responded": "running",
  complete: "done",
  error: "failed",
}

function Chat({ api, id }) {
  const { messages, sendMessage, isLoading, error, stop, interrupts } = useChat({
    connection: fetchServerSentEvents(api),
    ...(id && { threadId: id, persistence: true }),
  })
  return (
    <Page title="TanStack AI" isBusy={isLoading} error={error} onSend={sendMessage} onStop={stop}>
      {messages.map((message) => (
        <Message key={message.id} role={message.role}>
          {message.parts.map((part, index) => (
            <Part key={index} part={part} isLast={index === message.parts.length - 1} interrupts={interrupts} />
          ))}
        </Message>
      ))}
    </Page>
  )
}

function Part({ part, isLast, interrupts }) {
  if (part.type === "text") return <Text>{part.content}</Text>
  if (part.type === "thinking") return <Reasoning isOpen={isLast}>{part.content}</Reasoning>
  if (part.type !== "tool-call") return null
  const interrupt = interrupts.find((each) => each.id === part.approval?.id)
  return (
    <ToolCall
      name={part.name}
      state={part.approval?.approved === false ? "denied" : STATES[part.state]}
      input={part.input ?? part.arguments}
      output={part.output}
      onDecide={(approved) => interrupt.resolveInterrupt({ approved })}
    />
  )
}

show(Chat, "/api/chat")
