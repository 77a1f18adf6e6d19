"""Colors that color-blind people tell apart (Okabe and Ito), and a grey for lines that guide the eye."""

BLUE, VERMILION, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "0.55"
