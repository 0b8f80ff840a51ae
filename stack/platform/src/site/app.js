"use strict";
(async () => {
  const state = document.getElementById("state");
  const config = await (await fetch("/api/frontend/config")).json();
  document.getElementById("login").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const answer = await fetch(config.api + "/login", {
      method: "POST",
      body: JSON.stringify({ user: form.get("user"), password: form.get("password") }),
    });
    if (!answer.ok) {
      state.textContent = answer.status === 401 ? "Wrong user or password." : "Try again in a moment.";
      return;
    }
    state.textContent = "Logged in.";
    const { models } = await (await fetch(config.api + "/registry/models")).json();
    const list = document.getElementById("models");
    list.replaceChildren(...models.map((model) => {
      const line = document.createElement("li");
      line.textContent = model.name + " (" + model.framework + ")";
      return line;
    }));
  });
})();
