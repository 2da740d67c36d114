interface Props {
  title: string;
  level?: 1 | 2 | 3;
}

export const Heading = ({ title }: Props) => <h1>{title}</h1>;
