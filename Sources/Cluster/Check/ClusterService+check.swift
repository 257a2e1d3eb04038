import NIOCore

extension ClusterService {
    /// How long differences may last before they are differences, and a member may take to answer.
    private static let patience = TimeAmount.seconds(2)
    private static let answerTimeout = TimeAmount.seconds(1)
    private static let pause = Duration.milliseconds(100)

    /// Compares what all members hold of what they share, again and again until nothing differs or it has done so for two
    /// seconds: what is on its way differs for a moment.
    package func check() async -> ClusterCheck {
        let deadline = NIODeadline.now() + Self.patience
        var check = ClusterCheck()
        while true {
            // Fails only if the loop is gone, and the links with it.
            let answers = try? await self.loop.flatSubmit {
                self.state.value.hub.gatherReports(within: Self.answerTimeout)
            }.get()
            check.add(answers ?? [])
            guard !check.findings.isEmpty, NIODeadline.now() < deadline else { return check }
            // What is on its way needs a moment, and every round asks all members. It fails only if the asker is gone; then this
            // ends sooner.
            guard (try? await Task.sleep(for: Self.pause)) != nil else { return check }
        }
    }
}
