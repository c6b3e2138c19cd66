// Shows the counter that the server sends, and the state of the connection.
const ticks = document.getElementById("ticks");
const state = document.getElementById("state");
const events = new EventSource("/events");

events.onopen = () => { state.textContent = "Connected"; };
events.onmessage = (event) => { ticks.textContent = JSON.parse(event.data).ticks; };
events.onerror = () => { state.textContent = events.readyState === EventSource.CLOSED ? "Ended" : "Connecting…"; };
events.addEventListener("end", () => {
  events.close();
  state.textContent = "Ended: the session is over";
});
