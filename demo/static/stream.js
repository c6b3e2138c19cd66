// Shows the counter that the server sends, and the state of the connection.
const ticks = document.getElementById("ticks");
const state = document.getElementById("state");
const WHY = {
  logout: "Ended: you have logged out in another tab",
  revoked: "Ended: this device was logged out from another one",
  replaced: "Ended: you have logged in in another tab",
  too_many: "Ended: you have logged in on too many devices",
  idle: "Ended: the session was not used for too long",
  lifetime: "Ended: please log in again",
};
const events = new EventSource("/events");

events.onopen = () => { state.textContent = "Connected"; };
events.onmessage = (event) => { ticks.textContent = JSON.parse(event.data).ticks; };
events.onerror = () => { state.textContent = events.readyState === EventSource.CLOSED ? "Ended" : "Connecting…"; };
events.addEventListener("end", (event) => {
  events.close();
  state.textContent = WHY[JSON.parse(event.data).reason] ?? "Ended: the session is over";
});
